"""The provider's decorators."""
