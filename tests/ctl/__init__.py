"""Tests of chronik.ctl."""
