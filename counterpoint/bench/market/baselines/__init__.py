"""Policies to be beaten, each as strong as its kind can be."""
