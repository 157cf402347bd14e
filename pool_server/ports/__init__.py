"""What use cases need from the world, as Protocols: `store`, `blobs`, `rails` and `identity` implement them."""
