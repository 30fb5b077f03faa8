from tests.modeling.overfit import overfit


def test_trains_until_it_knows_four_images(tmp_path):
    results = overfit("dsb2018/cosine_embedding_R_18_256", tmp_path, 40, "MODEL.COSINE_EMBEDDING.CHANNELS", "16")
    assert results["segm"]["AP50"] >= 90
