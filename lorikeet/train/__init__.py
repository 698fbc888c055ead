"""An adapter or a whole model from tokens: TRL's SFTTrainer, resumable, with the best checkpoint by held-out loss."""
