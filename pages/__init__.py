"""The screens: widgets, one query, one figure each; what they share lies in pages/parts."""
