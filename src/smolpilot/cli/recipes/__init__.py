"""What commands do with a recipe, the folder of `train --seeds`, in place of one policy."""
