"""The SQL shell: reading, running and showing statements; dot commands; scripts."""
