"""The log of accepted transactions (TxnLog), embedded in the primary's own database."""
