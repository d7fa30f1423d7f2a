"""Nothing is done twice: what a stage depends on, who has it done already, and taking it over."""
