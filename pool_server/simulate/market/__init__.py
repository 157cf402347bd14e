"""A month of the market: synthetic owners and buyers, the pool's own price, bids and fair shares."""
