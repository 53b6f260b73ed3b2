"""Tests of chronik.client."""
