"""What the project claims, as cells: each one a training run and its verdict, kept as JSON, and tables made of them."""
