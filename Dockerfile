# The daemon alone: a static binary, no shell, not root. Build with:
#
#   docker build --build-arg VERSION=1.2.3 -t webhook-dispatcher .
#
# The build downloads Go modules; what runs downloads nothing.
FROM --platform=$BUILDPLATFORM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS TARGETARCH VERSION
# The folder has no git history from which go build could tell the version.
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /webhook-dispatcher ./cmd/webhook-dispatcher

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /webhook-dispatcher /webhook-dispatcher
COPY LICENSE /licenses/webhook-dispatcher
USER 65532:65532
# Health and metrics. The admin API, filters and receivers listen only where the settings say so.
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["/webhook-dispatcher"]
CMD ["serve"]
