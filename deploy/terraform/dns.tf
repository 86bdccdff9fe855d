# The name, and a certificate for it, which the load balancer finds by the name.

data "aws_route53_zone" "here" {
  name = var.dns_zone
}

resource "aws_acm_certificate" "host" {
  domain_name       = var.host
  validation_method = "DNS"
  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_route53_record" "proof" {
  for_each = { for one in aws_acm_certificate.host.domain_validation_options : one.domain_name => one }
  zone_id  = data.aws_route53_zone.here.zone_id
  name     = each.value.resource_record_name
  type     = each.value.resource_record_type
  records  = [each.value.resource_record_value]
  ttl      = 60
}

resource "aws_acm_certificate_validation" "host" {
  certificate_arn         = aws_acm_certificate.host.arn
  validation_record_fqdns = [for record in aws_route53_record.proof : record.fqdn]
}

data "aws_lb" "ingress" {
  count = var.load_balancer == "" ? 0 : 1
  name  = var.load_balancer
}

resource "aws_route53_record" "host" {
  count   = length(data.aws_lb.ingress)
  zone_id = data.aws_route53_zone.here.zone_id
  name    = var.host
  type    = "A"
  alias {
    name                   = data.aws_lb.ingress[0].dns_name
    zone_id                = data.aws_lb.ingress[0].zone_id
    evaluate_target_health = true
  }
}
