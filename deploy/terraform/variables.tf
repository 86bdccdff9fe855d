variable "region" {
  description = "Where everything is."
  type        = string
  default     = "eu-central-1"
}

variable "name" {
  description = "What everything is called by."
  type        = string
  default     = "parley"
}

variable "host" {
  description = "The name that people reach Parley by: ALLOWED_HOSTS."
  type        = string
}

variable "dns_zone" {
  description = "The Route 53 zone that host lies in."
  type        = string
}

variable "load_balancer" {
  description = "The name of the load balancer that the Ingress made, once it is there. Host then leads to it."
  type        = string
  default     = ""
}

variable "bucket" {
  description = "The bucket for uploaded files; the name must be free in all of S3."
  type        = string
}

variable "cidr" {
  description = "The addresses of the network: as the overlay `cloud` has them."
  type        = string
  default     = "10.0.0.0/16"
}

variable "administrators" {
  description = "Networks that may reach the cluster's interface."
  type        = list(string)
}

variable "kubernetes_version" {
  type    = string
  default = "1.33"
}

variable "node_type" {
  description = "The machines that Parley itself runs on."
  type        = string
  default     = "m7i.xlarge"
}

variable "nodes" {
  description = "How many of them at least and at most."
  type        = object({ least = number, most = number })
  default     = { least = 2, most = 10 }
}

variable "gpu_type" {
  description = "The machines that model servers run on: one GPU of 24 GiB, 8 cores, 32 GiB."
  type        = string
  default     = "g6.2xlarge"
}

variable "gpus" {
  description = "How many of them at least and at most. 0 and 0: model servers are elsewhere."
  type        = object({ least = number, most = number })
  default     = { least = 1, most = 4 }
}

variable "postgres_version" {
  description = "16 or newer, with pgvector 0.8.2 or newer."
  type        = string
  default     = "18"
}

variable "postgres_type" {
  type    = string
  default = "db.m7g.large"
}

variable "postgres_gib" {
  description = "Its disk; it grows up to ten times of that by itself."
  type        = number
  default     = 50
}

variable "redis_type" {
  type    = string
  default = "cache.m7g.large"
}

variable "cache_type" {
  type    = string
  default = "cache.t4g.small"
}
