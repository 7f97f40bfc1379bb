"""What a model sees of a crystal: neighbors, graphs, radial basis, element vectors."""
