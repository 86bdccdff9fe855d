locals {
  postgres = "${aws_db_instance.parley.endpoint}/parley?sslmode=require"
  redis    = aws_elasticache_replication_group.redis.primary_endpoint_address
  cache    = aws_elasticache_replication_group.cache.primary_endpoint_address
}

output "secret" {
  description = "What the Secret `parley` holds besides SECRET_KEY, PARLEY_KEY_PEPPER and PARLEY_ENCRYPTION_KEYS."
  sensitive   = true
  value = {
    DATABASE_URL          = "postgres://parley_app:${random_password.postgres["app"].result}@${local.postgres}"
    OPERATOR_DATABASE_URL = "postgres://parley_operator:${random_password.postgres["operator"].result}@${local.postgres}"
    REDIS_URL             = "rediss://:${random_password.redis.result}@${local.redis}:6379/0"
    CACHE_URL             = "rediss://:${random_password.redis.result}@${local.cache}:6379/0"
  }
}

output "owner_secret" {
  description = "What the Secret `parley-owner` holds."
  sensitive   = true
  value = {
    OWNER_DATABASE_URL = "postgres://parley_owner:${random_password.postgres["owner"].result}@${local.postgres}"
  }
}

output "first_start" {
  description = "The environment of deploy/postgres/10-parley.sh, which makes the roles."
  sensitive   = true
  value = {
    PGHOST                     = aws_db_instance.parley.address
    PGPASSWORD                 = random_password.postgres["postgres"].result
    POSTGRES_USER              = "postgres"
    POSTGRES_OWNER_PASSWORD    = random_password.postgres["owner"].result
    POSTGRES_APP_PASSWORD      = random_password.postgres["app"].result
    POSTGRES_OPERATOR_PASSWORD = random_password.postgres["operator"].result
  }
}

output "settings" {
  description = "What the overlay says in configMapGenerator."
  value = {
    ALLOWED_HOSTS      = var.host
    PARLEY_STORAGE_URL = "s3://${aws_s3_bucket.files.id}/uploads?region=${var.region}"
  }
}

output "role" {
  description = "What the overlay writes on the ServiceAccount `parley`."
  value       = aws_iam_role.parley.arn
}

output "images" {
  description = "Where the images are pushed to."
  value       = { for name, one in aws_ecr_repository.images : name => one.repository_url }
}
