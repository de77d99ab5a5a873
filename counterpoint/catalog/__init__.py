"""Advertiser > campaign > line item > creative, the exchanges, and the index that finds who may bid. Imports only base."""
