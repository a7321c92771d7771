"""Networks: encoder → heads, with the normaliser inside. Knows tensors and spaces, not environments or learning."""
