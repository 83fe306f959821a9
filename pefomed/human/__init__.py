"""Human raters: sheets out and in, simulated raters, and how far raters and judges agree."""
