"""What tests are made of: fakes that keep the contracts, scripted actors, a clock that stands still."""
