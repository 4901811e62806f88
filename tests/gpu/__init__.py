"""What must hold on a card, and how far it can be shown without one."""
