"""Digital phantoms: random anatomies imaged as CT or MR, with exact labels."""
