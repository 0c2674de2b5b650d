"""How answers, images and webhooks reach the caller, whole or with trouble."""
