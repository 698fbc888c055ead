"""What users thought of the replies: kept on this machine, pushed where that was asked for, counted, and made into rows for the next round."""
