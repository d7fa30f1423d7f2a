"""Images: the readers of MNIST and CIFAR-10, augmentation, networks and their model."""
