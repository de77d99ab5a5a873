"""How well the Budget agent moves money: in simulated markets with known truth, with bidding, and over real daily logs."""
