"""From a payload to an exact price, or to every reason why there is none. Pure."""
