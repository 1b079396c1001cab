"""The long proof: decisions and walks through feeds, until there are as many as were asked for."""
