"""What is known of providers and APIs: prices, capabilities, and the rules that both are written in."""
