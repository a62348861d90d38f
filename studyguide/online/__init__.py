"""Chapter 07: experiments on live traffic, bandits, drift, monitoring and alerts."""
