# Parley on AWS: a network, a cluster with a pool of GPUs, PostgreSQL, Redis, a bucket, images and a name. What runs in the
# cluster is deploy/kubernetes/overlays/cloud. docs/infrastructure.md tells how to use both.

terraform {
  required_version = ">= 1.9"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
    random = {
      source  = "hashicorp/random"
      version = "~> 3.6"
    }
  }
  # The state holds every password: keep it in a bucket that is encrypted and private.
  backend "s3" {
    key          = "parley/terraform.tfstate"
    encrypt      = true
    use_lockfile = true
  }
}

provider "aws" {
  region = var.region
  default_tags {
    tags = { Project = "parley" }
  }
}
