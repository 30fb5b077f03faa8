"""Train or evaluate any model that the configs describe: ours, Mask R-CNN, PointRend."""

from objguided_d2.engine import EngineError, argument_parser, launch, load_config, run


def main() -> None:
    parser = argument_parser()
    args = parser.parse_args()
    try:
        cfg = load_config(args)
        launch(run, args, (cfg, args))
    except EngineError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
