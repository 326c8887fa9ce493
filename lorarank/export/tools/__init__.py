"""One room for each tool: the keys it reads, with their source, and a document from settings (floor 3)."""
