"""Pictures and pages about what an encoder learned."""
