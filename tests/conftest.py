"""The order of the tests."""

#: By far the longest: started first, so that no worker sits idle while the other is still at them.
LONGEST = ("test_rounds", "test_smollm2", "test_resume", "test_arms")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.stem not in LONGEST)
