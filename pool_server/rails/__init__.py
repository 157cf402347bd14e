"""Ways to pay: each turns an approved payout run into a file that a bank takes."""
