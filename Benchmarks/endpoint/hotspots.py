"""--profile"""


def check():
    pass
