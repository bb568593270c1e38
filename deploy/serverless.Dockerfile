# syntax=docker/dockerfile:1
# One exported file as a container for Cloud Run (target cloudrun) or Lambda (target lambda).
#   docker build -f deploy/serverless.Dockerfile --target cloudrun --build-arg MODEL=x.segjax -t x .
ARG IMAGE=segjax:cpu

# hadolint ignore=DL3006
FROM ${IMAGE} AS model
ARG MODEL=model.segjax
COPY --chown=10001 ${MODEL} /model/model.segjax

# Programs compiled here are found again at a cold start, if the processor is of the same kind.
FROM model AS warm
ENV SEGJAX_CACHE=/home/segjax/cache
RUN ["segjax", "--mode=serve", "--model=/model/model.segjax", "--batch=1", "--dry_run"]

FROM warm AS cloudrun
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["exec segjax --mode=serve --model=/model/model.segjax --batch=1 --host=0.0.0.0 --port=${PORT:-8080}"]

# Lambda's own protocol becomes HTTP by AWS's adapter; only /tmp can be written there.
FROM public.ecr.aws/awsguru/aws-lambda-adapter:0.9.1 AS adapter

FROM model AS lambda
COPY --from=adapter /lambda-adapter /opt/extensions/lambda-adapter
ENV SEGJAX_CACHE=/tmp/segjax AWS_LWA_PORT=8000 AWS_LWA_READINESS_CHECK_PATH=/readyz
ENTRYPOINT ["segjax", "--mode=serve", "--host=127.0.0.1", "--port=8000"]
CMD ["--model=/model/model.segjax", "--batch=1"]
