"""What may stand in `params.yaml`: typed, frozen, validated."""
