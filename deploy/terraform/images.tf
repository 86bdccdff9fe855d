resource "aws_ecr_repository" "images" {
  for_each             = toset(["parley", "parley-nginx"])
  name                 = each.key
  image_tag_mutability = "IMMUTABLE"
  image_scanning_configuration {
    scan_on_push = true
  }
}
