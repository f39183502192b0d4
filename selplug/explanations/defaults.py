#: Weak enough not to be seen, strong enough to move most undefended networks.
PERTURBATION = "pgd:eps=2/255,alpha=0.5/255,steps=10"
#: Of more images, so many are explained.
MAX_IMAGES = 16
