"""How Parley is tested: the engine alone, the apps on real servers, and the whole by its journeys."""
