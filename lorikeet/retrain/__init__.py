"""Round two: what people said of an assistant's replies makes the next version, which has to beat the one that is served."""
