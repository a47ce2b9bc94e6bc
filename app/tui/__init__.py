"""The screen. Only here do core and widgets meet."""
