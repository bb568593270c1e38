"""Does the recipe for imbalance find threads that are a hundredth of an image?"""
