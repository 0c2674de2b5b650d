"""The steps that commands share: settings, preflight, consent, recording, execution, watching."""
