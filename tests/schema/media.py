"""What schemathesis loads in each sweep: pieces of uploads are bytes like others."""

import schemathesis

schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
