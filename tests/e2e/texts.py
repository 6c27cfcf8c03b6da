"""A query and documents, one of which clearly answers it."""

QUERY = "how do pandas eat?"
DOCUMENTS = [
    "Stock prices fell sharply on Monday.",
    "Pandas eat bamboo by stripping it with their teeth.",
    "The recipe needs two eggs and flour.",
]
BEST = 1
MODEL = "all-MiniLM-L6-v2-maxsim"
