"""What use cases need, as Protocols: `store`, `blobs`, `rails` and `identity` implement them."""
