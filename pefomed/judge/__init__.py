"""A language model as judge of answers and reports: what it is asked, what counts as its reply, a stand-in."""
