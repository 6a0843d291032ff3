"""Domain values to proto and back, cursors to strings and back. Protobuf, never gRPC."""
