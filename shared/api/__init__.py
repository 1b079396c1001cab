"""What every servicer needs: fields, pages, imports, and calls that can be repeated."""
