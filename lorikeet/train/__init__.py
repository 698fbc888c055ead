"""An adapter from tokens: TRL's SFTTrainer with LoRA, resumable, with the best checkpoint by held-out loss."""
