"""Training of the learned policies that come with the package: recipes, evolution, evidence."""

from agentserve_gym.learning.recipe import Recipe, load_recipe, recipe_names
from agentserve_gym.learning.runs import resume_recipe, train_recipe

__all__ = ["Recipe", "load_recipe", "recipe_names", "resume_recipe", "train_recipe"]
