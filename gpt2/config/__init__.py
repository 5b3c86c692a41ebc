"""The sections of `params.yaml`: typed, frozen, validated."""
